"""The contract between export and server: what a bundle is, and how it is read, checked and run."""
