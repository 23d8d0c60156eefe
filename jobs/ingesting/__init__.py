"""The steps of `ingest`, in their order: plan, parse, merge, commit."""
