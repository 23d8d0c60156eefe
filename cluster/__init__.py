"""Where does it run? Command line, configuration, Ray session, storage, registry."""
