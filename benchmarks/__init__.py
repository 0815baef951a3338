"""What is fast and what is true: each command prints its own baseline beside its figure."""
