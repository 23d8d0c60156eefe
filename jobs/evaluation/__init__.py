"""How ``evaluate`` works: rows of the test part, what each candidate says there, the truth if there is one, figures."""
