"""What a drift check and the reference it uses are made with, a file for each."""
