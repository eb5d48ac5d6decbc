"""The ways in which a retraining starts elsewhere: the parts of launch."""
