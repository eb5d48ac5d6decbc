"""What a column holds, counted in cells: the sums that every profile is made of."""
