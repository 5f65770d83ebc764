"""The networks: image encoders, the vision-language policy, and what it is asked.

encoders            image -> unit vector: CLIP (open_clip), OSNet (torchreid), stripes (no weights)
stripes             the weight-free descriptor of people
policy              load a vision-language policy and its processor; the embedded policy
inputs              samples with media -> tensors the policy takes
prompts             sample -> chat messages; one template per answer kind
torchvision_remedy  `import torchvision` beside a CPU build of torch
"""
