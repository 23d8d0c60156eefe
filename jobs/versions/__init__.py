"""What `millwright history` is made of: listing, provenance, differences, compaction, retention."""
