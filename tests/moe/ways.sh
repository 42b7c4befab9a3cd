# Every way of routing as settings of a configuration, a line each: sourced by scripts that go through them.
# shellcheck shell=bash disable=SC2034
moe=model.moe
acausal=$moe.allow_acausal=true

ways="
input_jitter        $moe.jitter=0.1
sample              $moe.exploration=SAMPLE
input_dropout       $moe.exploration=INPUT_DROPOUT $moe.jitter=0.1
logit_noise         $moe.exploration=LOGIT_NOISE $moe.jitter=0.1
mask_only           $moe.gate=MASK_ONLY
batch_prioritised   $moe.order=BATCH_PRIORITISED $acausal
router_bf16         $moe.router_bf16=true
dropless            $moe.capacity_factor=0
top_2               $moe.top_k=2
top_2_renormalised  $moe.top_k=2 $moe.gate=RENORMALISED
top_2_random        $moe.top_k=2 $moe.gate=RENORMALISED $moe.second_policy=RANDOM
top_2_dropless      $moe.top_k=2 $moe.capacity_factor=0
top_3_bias          $moe.top_k=3 $moe.bias_rate=0.01
no_token_left       $moe.router=NO_TOKEN_LEFT_BEHIND $moe.top_k=4
expert_choice       $moe.router=EXPERT_CHOICE $moe.balance_loss=0 $acausal
hash                $moe.router=HASH $moe.jitter=0 $moe.balance_loss=0 $moe.z_loss=0
soft                $moe.router=SOFT $moe.jitter=0 $moe.balance_loss=0 $moe.z_loss=0 $acausal
shared_fine         $moe.shared_experts=1 $moe.feed_forward=24 $moe.top_k=2
bias                $moe.bias_rate=0.01
global_balance      $moe.balance_scope=GLOBAL
balance_mean        $moe.balance_over_layers=MEAN $moe.every=1
mesh                $moe.preset=MESH
flaxformer          $moe.preset=FLAXFORMER
hf                  $moe.preset=HF
megatron            $moe.preset=MEGATRON $acausal
deepspeed           $moe.preset=DEEPSPEED $moe.top_k=2
tutel               $moe.preset=TUTEL $moe.top_k=2
keras               $moe.preset=KERAS
"
