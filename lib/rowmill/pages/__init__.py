"""What people look at: charts, and the pages of the dashboard."""
