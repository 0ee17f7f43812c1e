"""What can be told about compressors and methods: lists, pages and words."""
