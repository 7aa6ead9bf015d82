"""Prefect flows: orchestration only. The functions that they call work without Prefect."""
