"""Images whose parts or cameras move: estimating the motion, and following it back."""
