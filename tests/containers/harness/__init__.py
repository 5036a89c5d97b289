"""The crash harness: a known event stream, real consumer processes, faults, and the verdict.

stream.py    the events, a function of a seed
member.py    one `stream-scorer run` process: started, killed, frozen, asked to stop
rig.py       topics, members and servers of one test, and waits by condition
verdict.py   what a single pass over the topic gives, compared with what the consumers left behind
sabotage.py  a launcher that runs the consumer with one guarantee broken: the harness must see it
"""
