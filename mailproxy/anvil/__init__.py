"""ROLE anvil: what several processes must know of each other's clients: how many connections a user has, who guesses
passwords.  Nobody waits for it: without anvil, nothing but these counts is missing."""
