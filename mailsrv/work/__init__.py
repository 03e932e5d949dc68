"""What the programs do with a message: pick up, route, deliver, report. No sockets, no command line."""
