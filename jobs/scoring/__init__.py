"""How score works: a unit's windows answered by the champion, as rows of the journal."""
