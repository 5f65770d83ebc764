"""Small data sets in real layouts, drawn with a known truth.

people    pedestrians seen by six cameras          -> the Market-1501 layout
clips     moving, colliding shapes and questions   -> the CLEVRER layout

Each data set keeps its truth beside it in `truth.parquet`; builders turn it into rationales.
"""
