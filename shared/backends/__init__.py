"""Model servers: one Protocol, one file per dialect."""
