"""Raw formats, one file each: bytes of a plant's file to Arrow columns of text and numbers."""
