"""Manifests -> policy.

importance     group disagreement per token, from hidden states; head: what turns them into logits
rewards        soft, exact, format and length rewards
config         TokenWeightedGRPOConfig; options: ours alone, light to import
data           samples, their media and prompts; targets: supervised ones
trainer        TokenWeightedGRPOTrainer; shared_prompt: prompts encoded once; batches: whole groups
vllm_prompts   the same prompts, sampled by vLLM
launch         parse, load, resume, save; resume: exactly
journal        log.jsonl and samples.jsonl; progress: one line in the terminal
warmup                                                                         (command)
grpo                                                                           (command)
plot           curves of runs                                                  (command)
"""
