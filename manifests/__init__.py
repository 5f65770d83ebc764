"""The contract: two Parquet tables that builders write and training and evaluation read.

schema    the tables, their types and keys; `validate` names the row and the rule it breaks
parquet   scan, atomic write, content digest, file metadata
answers   parse and format "<answer>A,C</answer>"; set scores
blind     what strategies that see no media would score
media     resolve a media path under its root; decode images; sample video frames
page      one self-contained HTML page of cards
gallery   rows of manifests as such cards
cards     the data set card, and the upload to the Hub
command   options of a command line, its errors and its tables

`python -m manifests validate | stats | show | gallery | card` looks at files.
"""
