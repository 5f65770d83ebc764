"""The contract between builders, training and evaluation: two Parquet tables.

schema     the tables, their types and keys; `validate` names the row and the rule it breaks
parquet    read, write atomically, content digest, file metadata
prompts    sample -> chat messages; one instruction for each task
answers    parse and format "<answer>A,C</answer>"; set scores
text_only  the best scores of strategies that see no media
media      resolve a media path under its root; decode images; sample video frames
exports    the formats of other trainers, and back
runs       files and records of run folders
page       one self-contained HTML page of cards; galleries of manifests; the data set card
command    command lines from dataclasses, their errors and tables
files      atomic writes, locks and globs
errors     errors that the user can fix

`python -m manifests validate|stats|show|gallery|card FILE` inspects files.
"""
