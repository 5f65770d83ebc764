"""How the embedded policy is made: `python -m scripts.embedded` (`make embedded`).

architecture   its tokenizer, network and processor
stages         its pre-training: text alone, the vision tower alone, then everything
"""
