"""The fused step: neighbouring operations computed as one."""
