"""The audit log: a record of every decision, in files of JSON lines. See docs/audit.md."""
