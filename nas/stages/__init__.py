"""The stages of a job, one per file: what units of work a stage has, and how one is done."""
