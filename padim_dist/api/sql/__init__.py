"""SQL over a workspace: tables of its runs, views, and the sandbox of queries."""
