"""How a model's service, predictions, budgets and upkeep do: pure rules, told without a person asking."""
