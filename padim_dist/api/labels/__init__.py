"""Labels: reviews of people, and the evaluation of runs by labels, masks and reviews."""
