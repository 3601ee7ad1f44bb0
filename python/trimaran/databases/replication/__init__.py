"""Replication of one group: a primary, its replicas, and who takes over.

topology    facts of a moment, and what is remembered
failover    decide(): from facts and memory to one action with a reason; pure
probe, line asking a node how it is, with limits;  observe: one round of all nodes;  lag: how far behind, in time
operations  what is done by SQL;  actions: carrying a decision out;  nodes: embedded nodes and those of others
loop        facts -> decide -> act -> publish
memory      group.json, written before anything that depends on it
"""
