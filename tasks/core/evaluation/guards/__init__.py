"""What may speak against a challenger however good its score is on the newest rows."""
