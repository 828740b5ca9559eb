"""The only rooms with doors to the outside: files, archives, catalogues, programs."""
