"""What a page shows of how a model is doing: state, figures, records, the month in words."""
