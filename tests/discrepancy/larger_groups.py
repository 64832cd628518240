"""The contract for what needs several distinct points in each group: its samples with groups of at least three."""

import torch
from contract import DiscrepancyContract, rows

from discrepancy import Discrepancy, Grouping

__all__ = ["LargerGroups"]


class LargerGroups(DiscrepancyContract):
    def test_groups_are_compared_one_by_one(self, discrepancy: Discrepancy):
        mu, nu, draws = self.sample(11), self.sample(8, 1), self.draws(discrepancy)
        of_mu, of_nu = torch.tensor([0, 1, 1, 0, 1, 1, 1, 0, 0, 1, 1]), torch.tensor([1, 0, 1, 1, 1, 0, 1, 0])
        grouped = [side.conditioned(Grouping.of(of, 2)) for side, of in ((mu, of_mu), (nu, of_nu))]
        alone = [
            discrepancy(rows(mu, (of_mu == group).nonzero()[:, 0]), rows(nu, (of_nu == group).nonzero()[:, 0]), draws)
            for group in range(2)
        ]
        torch.testing.assert_close(discrepancy(*grouped, draws), torch.stack(alone))
        second, whole = torch.tensor([1]), discrepancy.summarise(grouped[0], draws)
        part = discrepancy.compare(whole.select(second), grouped[1].select(second), draws)
        torch.testing.assert_close(part, torch.stack(alone)[1:])
        assert whole.nbytes > 0
