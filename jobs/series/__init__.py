"""History as gridded series: cut into units, streamed out of the tables, kept on disk for training."""
