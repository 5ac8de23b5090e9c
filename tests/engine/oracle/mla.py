"""Multi-head latent attention: deepseek_v3, deepseek_v32, kimi, glm_moe_dsa, glm4_moe_lite."""


def cases(args):
    return {}
