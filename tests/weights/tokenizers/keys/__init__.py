"""Every key of the files that say a tokenizer: read, refused or harmless for a reason."""
