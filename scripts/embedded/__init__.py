"""Make the embedded policy: `python -m scripts.embedded` (`make embedded`).

architecture   tokenizer, network and processor
stages         pre-training: text alone, the vision tower alone, then everything
"""
