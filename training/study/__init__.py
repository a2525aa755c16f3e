"""Studies: many trainings under one budget and one evaluation, a resumable cell each."""
