"""The crash test: a real server with real agents is killed again and again, at chosen points and at random moments.

`python -m tests.crash --kills 100 --seed 7` from the top of the repository; `test_crash.py` does a few. What each
module does: `points` puts crash points around every effect of a server, from outside; `server` is `orch serve` with
one of them armed; `agent` is what the attempts run; `operators` are the clients; `campaign` kills; `evidence` and
`check_*` compare, without the product's code, what everyone was told with what is there.
"""
