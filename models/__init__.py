"""The networks: image encoders, the vision-language policy.

encoders         image -> unit vector: CLIP (open_clip), OSNet (torchreid), stripes (no weights)
stripes          the weight-free descriptor of people
policy           load a vision-language policy and its processor; the embedded policy
inputs           samples with media -> tensors for the policy
positions        rotary positions of prompts; text starts behind a clip's last position
torchvision_cpu  `import torchvision` beside a CPU build of torch
"""
