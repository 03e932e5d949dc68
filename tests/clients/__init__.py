"""Mail clients that people use, against a real instance."""
