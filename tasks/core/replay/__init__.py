"""A history played again: the simulated year, the backtest, and how both are shown."""
