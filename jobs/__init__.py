"""What starts and ends? One file a verb: ``run(settings, ...) -> Report``."""
