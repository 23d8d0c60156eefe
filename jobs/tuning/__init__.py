"""A study: what is searched, what was tried, who trains next, and when it ends."""
