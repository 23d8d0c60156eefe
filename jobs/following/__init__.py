"""The steps of `follow`: receive, spool, cut a batch, decode, commit."""
