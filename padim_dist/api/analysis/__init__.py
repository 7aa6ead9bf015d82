"""Queries and pictures over finished runs."""
