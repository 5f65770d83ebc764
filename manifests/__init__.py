"""The contract: two Parquet tables that builders write and training and evaluation read.

schema    the tables, their types and keys; `validate` names the row and the rule it breaks
parquet   scan, atomic write, content digest, file metadata
answers   parse and format "<answer>A,C</answer>"; set scores
blind     what strategies that see no media would score
media     resolve a media path under its root; decode images; sample video frames
command   options of a command line, its errors and its tables

`python -m manifests validate | stats | show` looks at files.
"""
