"""Finding files by meaning: embedders, extraction, chunks, indexes and their upkeep."""
