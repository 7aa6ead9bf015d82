"""Prefect flows: orchestration only. What they call works without Prefect."""
