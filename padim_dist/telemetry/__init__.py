"""What Prometheus is told: counted in each process, served by one of them."""
