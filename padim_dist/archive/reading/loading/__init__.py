"""Loading images ahead: threads that fetch and decode."""
