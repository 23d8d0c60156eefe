"""How ``connect`` finds out what files hold: one idea a module, each pure but for ``sampling``."""
